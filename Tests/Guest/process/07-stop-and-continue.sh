sleep 5 & child=$!
kill -STOP $child
sleep 0.1
read -r stat < /proc/$child/stat
case "$stat" in *") T "*) ;; *) fail "not stopped: $stat";; esac
kill -CONT $child
sleep 0.1
read -r stat < /proc/$child/stat
case "$stat" in *") S "*) ;; *) fail "not continued: $stat";; esac
kill $child; wait $child; equal $? 143
