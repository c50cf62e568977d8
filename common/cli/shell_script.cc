#include "common/cli/shell_script.h"

#include <cassert>

namespace culvert::cli {
namespace {

// Bash splits the line at = : and @ as well (COMP_WORDBREAKS) and replaces only what is behind the
// last of these; the program takes and gives whole words. Where the program has no candidate,
// readline's own completion of file names goes on, or not.
constexpr std::string_view kBash = R"script(# bash completion for %P; written by: %P completion bash
_%P() {
  local rest=${COMP_LINE:0:COMP_POINT} blanks piece= line i
  local -a words=()
  for ((i = 0; i <= COMP_CWORD; i++)); do
    blanks=${rest%%[^[:blank:]]*}
    rest=${rest:${#blanks}}
    piece=${COMP_WORDS[i]:0:${#rest}}
    rest=${rest:${#piece}}
    if [[ $i -eq 0 || -n $blanks ]]; then
      words+=("$piece")
    else
      words[${#words[@]} - 1]+=$piece
    fi
  done
  [[ -n ${piece//[=:@]/} ]] || piece=
  local word=${words[${#words[@]} - 1]}
  local prefix=${word%"$piece"}
  COMPREPLY=()
  while IFS= read -r line; do
    case $line in
      :nothing) compopt +o default 2>/dev/null ;;
      :folders) compopt +o default -o dirnames 2>/dev/null ;;
      :files) ;;
      *)
        line=${line%%$'\t'*}
        COMPREPLY+=("${line#"$prefix"}")
        ;;
    esac
  done < <("${words[0]}" __complete "${words[@]:1}" 2>/dev/null)
}
complete -o default -F _%P %P
)script";

// Either autoloaded from a folder in fpath, when the file is the function's body, or sourced.
constexpr std::string_view kZsh = R"script(#compdef %P
# zsh completion for %P; written by: %P completion zsh
_%P() {
  local line otherwise
  local -a found
  while IFS= read -r line; do
    case $line in
      (:*) otherwise=$line ;;
      (*$'\t'*) found+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}") ;;
      (*) found+=("${line//:/\\:}") ;;
    esac
  done < <("${(Q)words[1]}" __complete "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)
  if (( $#found )); then
    _describe -t values value found
  elif [[ $otherwise == :files ]]; then
    compset -P '--*='
    _files
  elif [[ $otherwise == :folders ]]; then
    compset -P '--*='
    _files -/
  else
    return 1
  fi
}
if [[ ${funcstack[1]} == _%P ]]; then
  _%P "$@"
else
  compdef _%P %P
fi
)script";

constexpr std::string_view kFish = R"script(# fish completion for %P; written by: %P completion fish
function __%P_complete
    set -l words (commandline -opc)
    set -l typed (commandline -ct)
    set -l program $words[1]
    set -e words[1]
    set -l lines ($program __complete $words "$typed" 2>/dev/null)
    set -q lines[1]; or return
    set -l otherwise $lines[-1]
    set -e lines[-1]
    set -l before (string match -r -- '^--[^=]*=' "$typed")
    set -l value (string replace -r -- '^--[^=]*=' '' "$typed")
    if set -q lines[1]
        printf '%s\n' $lines
    else if test "$otherwise" = :files
        __fish_complete_path "$value" | string replace -r -- '^' "$before"
    else if test "$otherwise" = :folders
        __fish_complete_directories "$value" | string replace -r -- '^' "$before"
    end
end
complete -c %P -f -a '(__%P_complete)'
)script";

}  // namespace

std::string completion_script(std::string_view shell, std::string_view program) {
  assert(shell == "bash" || shell == "zsh" || shell == "fish");
  std::string text(shell == "bash" ? kBash : shell == "zsh" ? kZsh : kFish);
  constexpr std::string_view kMark = "%P";
  for (size_t at = text.find(kMark); at != std::string::npos; at = text.find(kMark, at))
    text.replace(at, kMark.size(), program);
  return text;
}

}  // namespace culvert::cli
