#!/bin/sh
# Programs as benchmarks, for a root with osbench in /bench: python3, bash, dash, busybox and hackbench of Debian, three rounds.
PATH=/usr/bin:/usr/sbin:/bin:/sbin LC_ALL=C
export PATH LC_ALL
cd /bench || exit 1
measure() { ./osbench time "$@"; }
twohundred='i=0; while [ $i -lt 200 ]; do %; i=$((i+1)); done'
repeat() { echo "$twohundred" | sed "s|%|$1|"; }
for round in 1 2 3; do
  measure python3_start python3 -S -c pass
  measure bash_start bash -c :
  measure busybox_200_exec busybox sh -c "$(repeat '/bin/busybox true')"
  measure dash_200_exec dash -c "$(repeat /usr/bin/true)"
  measure dash_200_fork dash -c "$(repeat '(:)')"
  measure hackbench_sockets sh -c 'hackbench -g 2 -l 100 > /dev/null'
  measure hackbench_pipes sh -c 'hackbench -p -g 2 -l 100 > /dev/null'
  measure hackbench_threads sh -c 'hackbench -T -p -g 2 -l 100 > /dev/null'
done
