# /proc has an end: a thread's directory holds no threads.
[ -e /proc/self/task ] || fail "no task directory"
for thread in /proc/$$/task/*; do [ ! -e $thread/task ] || fail "$thread/task"; done
