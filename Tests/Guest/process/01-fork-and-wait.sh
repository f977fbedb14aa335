# 300 children come and go; frames and processes are back where they were.
/bin/true; /bin/true
before=$(value processes)
i=0; while [ $i -lt 50 ]; do /bin/true; i=$((i + 1)); done
frames=$(value free_frames)
i=0; while [ $i -lt 300 ]; do /bin/true || fail "child $i"; i=$((i + 1)); done
equal "$(value processes)" "$before"
after=$(value free_frames)
[ $after -ge $((frames - 8)) ] || fail "frames leaked: $frames before, $after after"
