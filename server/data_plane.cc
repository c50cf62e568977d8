#include "server/data_plane.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "common/base/log.h"
#include "server/handover.h"
#include "server/worker.h"

namespace culvert::server {

DataPlane::DataPlane() = default;
DataPlane::~DataPlane() = default;

Result<std::unique_ptr<DataPlane>> DataPlane::create(std::vector<net::TunDevice> queues,
                                                     std::optional<net::TunSteering> steering,
                                                     std::optional<UdpService> udp,
                                                     std::function<void(DataEvent)> to_control) {
  std::unique_ptr<DataPlane> plane(new DataPlane);
  plane->steering_ = std::move(steering);
  const size_t count = queues.size();
  assert(count > 0 && (!udp || udp->sockets.size() == count));
  if (count > 1) {
    auto handover = Handover::create(count);
    if (!handover) return handover.error();
    plane->handover_ = std::move(*handover);
  }
  for (size_t number = 0; number < count; ++number) {
    std::optional<Worker::Udp> own;
    if (udp) own = Worker::Udp{std::move(udp->sockets[number]), udp->config, udp->cookie_key};
    plane->workers_.push_back(
        std::make_unique<Worker>(Worker::Place{number, count, plane->handover_.get()},
                                 std::move(queues[number]), std::move(own), to_control));
  }
  plane->load_.resize(count);
  return plane;
}

// What the workers hold is made on this thread, before theirs begins.
Status DataPlane::start() {
  for (const auto& worker : workers_) {
    if (Status started = worker->start(); !started) return started;
  }
  for (const auto& worker : workers_)
    threads_.emplace_back([w = worker.get()] { w->run(); });
  return {};
}

void DataPlane::stop_and_join() {
  for (size_t i = 0; i < threads_.size(); ++i)
    post(i, [](Worker& worker) { worker.loop().stop(); });
  for (std::thread& thread : threads_)
    thread.join();
  threads_.clear();
}

template <typename F>
void DataPlane::post(size_t worker, F task) {
  Worker* const to = workers_[worker].get();
  to->loop().post([to, t = std::move(task)]() mutable { t(*to); });
}

size_t DataPlane::least_loaded() const {
  return static_cast<size_t>(std::min_element(load_.begin(), load_.end()) - load_.begin());
}

void DataPlane::attach(AttachRequest request) {
  const auto [home, is_new] = homes_.try_emplace(request.id);
  if (is_new) {
    home->second.worker = least_loaded();
    ++load_[home->second.worker];
  }
  home->second.attachment = request.attachment;
  steer(home->second, request.inside);
  const size_t at = home->second.worker;
  for (size_t other = 0; other < workers_.size(); ++other) {
    if (other == at) continue;
    post(other, [p = Presence{request.id, at, request.inside, request.udp_app_id}](
                    Worker& worker) mutable { worker.publish(std::move(p)); });
  }
  post(at, [r = std::move(request)](Worker& worker) mutable { worker.attach(std::move(r)); });
}

// From here on the kernel gives us these destinations' packets on the session's own thread. Others
// go on with being passed on if it cannot.
void DataPlane::steer(Home& home, const std::vector<Prefix>& inside) {
  if (!steering_) return;
  for (const Prefix& old : home.inside) {
    if (std::find(inside.begin(), inside.end(), old) == inside.end()) steering_->erase(old);
  }
  home.inside = inside;
  for (const Prefix& prefix : inside) {
    const Status set = steering_->set(prefix, static_cast<uint32_t>(home.worker));
    if (set) continue;
    log::warning("data", "packets are not steered to their thread any more",
                 {{"why", set.error().message()}});
    steering_->detach();
    steering_.reset();
    return;
  }
}

void DataPlane::end(SessionId id, EndKind kind, std::string reason) {
  const auto home = homes_.find(id);
  post(home != homes_.end() ? home->second.worker : 0,
       [id, kind, r = std::move(reason)](Worker& worker) { worker.end(id, kind, r); });
}

void DataPlane::forget(SessionId id) {
  const auto home = homes_.find(id);
  if (home == homes_.end()) return;
  post(home->second.worker, [id](Worker& worker) { worker.forget(id); });
  leave(id);
}

// The home knows already, or will.
void DataPlane::leave(SessionId id) {
  const auto home = homes_.extract(id);
  if (!home) return;
  steer(home.mapped(), {});
  const size_t at = home.mapped().worker;
  --load_[at];
  for (size_t other = 0; other < workers_.size(); ++other) {
    if (other != at) post(other, [id](Worker& worker) { worker.withdraw(id); });
  }
}

// A worker forgets a session by itself when it has ended. If the session has got another connection
// meanwhile, it is back.
void DataPlane::note(const DataEvent& event) {
  const bool ended =
      event.kind == DataEvent::Kind::kEnded || event.kind == DataEvent::Kind::kPeerEnded;
  const auto home = homes_.find(event.id);
  if (!ended || home == homes_.end()) return;
  if (event.attachment == 0 || event.attachment == home->second.attachment) leave(event.id);
}

// From worker to worker, so that nobody waits for anybody.
void DataPlane::snapshot(std::function<void(DataPlaneStats)> done) {
  struct Round {
    std::vector<std::unique_ptr<Worker>>& workers;
    std::function<void(DataPlaneStats)> done;
    DataPlaneStats stats{};
    static void visit(std::shared_ptr<Round> round, size_t number) {
      Worker* const worker = round->workers[number].get();
      worker->loop().post([r = std::move(round), worker, number] {
        worker->add_to(r->stats);
        if (number + 1 == r->workers.size()) {
          r->done(std::move(r->stats));
        } else {
          visit(r, number + 1);
        }
      });
    }
  };
  Round::visit(std::make_shared<Round>(Round{workers_, std::move(done)}), 0);
}

}  // namespace culvert::server
