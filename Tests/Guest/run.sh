#!/bin/sh
# Runs every case of /tests/list and reports in KTAP on the second serial port.
out=/dev/ttyS1
total=$(wc -l < /tests/list)
echo "KTAP version 1" > $out
echo "1..$total" > $out
number=0
while read -r name; do
  number=$((number + 1))
  echo "# running $name" > $out
  mkdir -p /tmp/case
  if /bin/sh -c "cd /tmp/case; . /tests/lib.sh; . /tests/$name.sh" > /tmp/output 2>&1; then
    echo "ok $number - $name" > $out
  else
    while read -r line; do echo "# $line" > $out; done < /tmp/output
    echo "not ok $number - $name" > $out
  fi
  rm -rf /tmp/case
done < /tests/list
exit 0
