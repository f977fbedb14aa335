# Anything that is no program is refused, never a fault in the kernel.
head -c 60 /bin/ls > short
head -c 4000 /bin/ls > longer
sh -c 'exec ./short' 2>/dev/null; [ $? -ne 0 ] || fail "a truncated program ran"
sh -c 'exec ./longer' 2>/dev/null; [ $? -ne 0 ] || fail "a truncated program ran"
