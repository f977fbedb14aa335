sleep 0.2 & first=$!
sleep 0.1 & second=$!
wait $first; equal $? 0
wait $second; equal $? 0
sh -c 'exit 9' & wait $!; equal $? 9
