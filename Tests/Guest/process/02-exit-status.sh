sh -c 'exit 42'; equal $? 42
sh -c 'kill -TERM $$'; equal $? 143
sh -c 'kill -KILL $$'; equal $? 137
/bin/false; equal $? 1
/bin/nothing-here; equal $? 127
/etc/passwd; equal $? 126
