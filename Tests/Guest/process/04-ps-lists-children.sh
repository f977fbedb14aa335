sleep 5 & a=$!
sleep 5 & b=$!
ps > list
count=0
while read -r pid rest; do
  if [ "$pid" = $a ] || [ "$pid" = $b ]; then count=$((count + 1)); fi
done < list
equal $count 2
kill $a $b
wait
