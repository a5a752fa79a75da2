# A hundred lines of bash that use what real scripts use; every line of output is the same on every correct system.
# The commands are those of busybox, found in PATH.
set -u -o pipefail
shopt -s extglob nullglob

log() { printf '%-12s| %s\n' "$1" "${*:2}"; }

# Functions: locals, recursion, return values, default arguments.
factorial() {
    local n=$1
    ((n <= 1)) && { echo 1; return; }
    echo $((n * $(factorial $((n - 1)))))
}
greet() { local name=${1:-nobody}; log greet "hello, ${name^}"; return ${#name}; }
log factorial "$(factorial 10)"
greet; log status $?
greet world; log status $?

# Indexed and associative arrays, slices, sorting by a pipeline.
fruits=(pear apple "dragon fruit" fig)
fruits+=(banana)
log array "${#fruits[@]} ${fruits[2]} ${fruits[@]:1:2} ${!fruits[*]}"
mapfile -t sorted < <(printf '%s\n' "${fruits[@]}" | sort)
log sorted "${sorted[*]}"
declare -A colour=([apple]=green [pear]=yellow [fig]=purple)
colour[banana]=yellow
for key in $(printf '%s\n' "${!colour[@]}" | sort); do log colour "$key=${colour[$key]}"; done
unset 'colour[fig]'
log count "${#colour[@]}"

# Text: parameter expansion, regular expressions, globbing, here-documents.
path=/usr/share/doc/minikern/README.md.gz
log path "${path##*/} ${path%/*} ${path%%.*} ${path/doc/DOC} ${path//[aeiou]/_}"
if [[ 2024-02-29T12:34 =~ ^([0-9]{4})-([0-9]{2})-([0-9]{2}) ]]; then log regex "${BASH_REMATCH[@]:1}"; fi
case abcabc in +(abc)) log extglob yes ;; *) log extglob no ;; esac
mkdir -p work && cd work || exit 1
touch a.txt b.txt c.log
log glob *.txt *.none
while IFS=: read -r user _ uid rest; do log passwd "$user has $uid and $rest"; done <<'END'
root:x:0:0:root:/root
daemon:x:1:1:daemon:/
END
cat <<END | tr a-z A-Z
    two and two make $((2 + 2)), $(echo and three make seven)
END

# Process substitution, both ways, and redirections with numbered descriptors.
paste -d+ <(seq 1 3) <(seq 4 6)
diff <(printf '1\n2\n3\n') <(printf '1\nx\n3\n'); log diff $?
seq 5 | tee >(wc -l | tr -d ' ' >count) >(sort -rn >reversed) >/dev/null
for _ in {1..50}; do [[ -s count && -s reversed ]] && break; sleep 0.1; done
log tee "$(<count) lines, $(tr '\n' ' ' <reversed)"
exec 3>fd3 4>&1
echo to three >&3; exec 3>&-
echo to four >&4; exec 4>&-
log fd3 "$(cat fd3)"

# Background jobs, wait, exit statuses, pipefail and PIPESTATUS.
for n in 3 1 2; do (sleep 0.0$n; exit $n) & pids[n]=$!; done
for n in 1 2 3; do wait "${pids[n]}"; log wait "job $n exited with $?"; done
(kill -TERM $BASHPID; sleep 5); log killed $?
false | true; log pipefail $?
true | false | (exit 3); log pipestatus "${PIPESTATUS[*]}"
sleep 30 & kill %1; wait %1 2>/dev/null; log wait $?

# Traps: signals, ERR, RETURN, EXIT in a subshell.
trap 'log trap "USR1 caught"' USR1
kill -USR1 $$
trap '' USR2; kill -USR2 $$; log trap "USR2 ignored"
(trap 'echo "leaving with $?"' EXIT; exit 7); log subshell $?
(set -E; trap 'echo "failed: $BASH_COMMAND"' ERR; false; true)
(trap 'exit 9' HUP; kill -HUP $BASHPID; sleep 5); log hangup $?

# Arithmetic, printf, loops of every kind.
for ((i = 0, j = 10; i < j; i += 3, j--)); do printf '%d/%d ' "$i" "$j"; done; echo
i=0; until ((i ** 2 > 50)); do ((i++)); done; log until "$i"
printf '%05.2f|%-6s|%+d|%x|%q\n' 3.14159 left 42 255 'it is $5'
log arith $((16#ff)) $((2#1010)) $((7 / 2)) $((-7 % 3)) $((1 << 40)) $((5 > 3 ? 1 : 0))
options() {
    local OPTIND=1 flag
    while getopts ab:c flag; do printf '%s=%s ' "$flag" "${OPTARG-}"; done
    shift $((OPTIND - 1)); echo "rest: $*"
}
log getopts "$(options -a -b value -c one two)"
hanoi() { (($1 == 0)) || { hanoi $(($1 - 1)) "$2" "$4" "$3"; printf '%s%s ' "$2" "$3"; hanoi $(($1 - 1)) "$4" "$3" "$2"; }; }
log hanoi "$(hanoi 3 A C B)"
printf -v padded '%-8s>' text; log printf "$padded"
read -r first second <<<"here string"; log read "$second $first"
log braces {a,b}{1..3} {10..2..4}
set -- "x y" z; log args $# "$1" "${@: -1}"
(umask 027; : >masked; [[ -f masked && ! -s masked ]] && ls -l masked | cut -c1-10)
(ulimit -n 64; ulimit -n)
select_one() { local -n reference=$1; reference=chosen; }
select_one target; log nameref "$target"
coproc UPPER { while read -r line; do echo "${line^^}"; done; }
coprocess=$UPPER_PID
echo through a coprocess >&"${UPPER[1]}"; read -r answer <&"${UPPER[0]}"; log coproc "$answer"
eval "exec ${UPPER[1]}>&-"; wait "$coprocess"; log coproc $?
trap 'log exit "bye, status $?"' EXIT
exit 42
