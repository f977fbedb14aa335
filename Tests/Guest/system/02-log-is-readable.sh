dmesg > log
[ $(wc -l < log) -gt 3 ] || fail "no log"
