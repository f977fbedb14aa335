# A stop and a continue do not end a sleep early.
sleep 3 & child=$!
kill -STOP $child; sleep 0.1; kill -CONT $child
sleep 0.2
[ -e /proc/$child/stat ] || fail "gone"
read -r stat < /proc/$child/stat
case "$stat" in *") S "*) ;; *) fail "ended early: $stat";; esac
wait $child; equal $? 0
