# The tests build trees of their own.
target_link_libraries(unit_cli PRIVATE CLI11::CLI11)
