# limit: 200
rounds=100; if [ -n "$TORTURE" ]; then rounds=1000; fi
size=$(wc -c < /bin/sh)
i=0
while [ $i -lt $rounds ]; do
  count=$(cat /bin/sh | wc -c)
  [ "$count" = "$size" ] || fail "round $i: $count of $size bytes"
  i=$((i + 1))
done
