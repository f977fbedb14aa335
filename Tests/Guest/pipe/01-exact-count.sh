size=$(wc -c < /bin/sh)
i=0
while [ $i -lt 100 ]; do
  count=$(cat /bin/sh | wc -c)
  [ "$count" = "$size" ] || fail "round $i: $count of $size bytes"
  i=$((i + 1))
done
