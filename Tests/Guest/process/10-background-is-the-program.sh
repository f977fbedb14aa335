# $! is the program itself: who kills it leaves nothing behind.
sleep 20 & a=$!
while :; do
  ps > list
  found=0
  while read -r pid parent state size name rest; do
    if [ "$pid" = $a ] && [ "$name" = sleep ]; then found=1; fi
  done < list
  [ $found = 1 ] && break
done
kill $a
wait $a
equal $? 143
