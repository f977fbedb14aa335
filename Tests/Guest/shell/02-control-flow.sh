n=0; for i in 1 2 3 4; do [ $i = 3 ] && continue; n=$((n + i)); done; equal $n 7
n=0; while true; do n=$((n + 1)); [ $n = 5 ] && break; done; equal $n 5
case hello in h*o) r=yes;; *) r=no;; esac; equal $r yes
if false; then r=1; elif true; then r=2; else r=3; fi; equal $r 2
f() { echo "in $1"; return 3; }; out=$(f x); equal $? 3; equal "$out" "in x"
! false || fail negation
until [ $n = 0 ]; do n=$((n - 1)); done; equal $n 0
