#!/bin/sh
# Files as benchmarks, for a root with osbench in /bench: find, tar, git, sqlite3 and dbench of Debian; ROUNDS rounds, 1 if not set.
# It makes two trees: /bench/tree (2,000 files of parts of git) and /bench/many (20,000 empty ones).
PATH=/usr/bin:/usr/sbin:/bin:/sbin LC_ALL=C HOME=/root
export PATH LC_ALL HOME
cd /bench || exit 1
measure() { ./osbench time "$@"; }
mkdir tree many
split -n 10 -a 1 -d /usr/bin/git tree/part
for part in 0 1 2 3 4 5 6 7 8 9; do mkdir tree/$part; split -n 200 -a 3 -d tree/part$part tree/$part/file; done
rm tree/part*
for directory in $(seq 100); do mkdir many/$directory; (cd many/$directory && seq 200 | xargs touch); done
sync
git config --global user.name bench; git config --global user.email bench@localhost; git config --global gc.auto 0
rows() { i=0; while [ $i -lt 300 ]; do echo "INSERT INTO t VALUES($i,'row $i');"; i=$((i+1)); done; }
table='PRAGMA synchronous=FULL; CREATE TABLE t(i INTEGER PRIMARY KEY, s TEXT);'
./osbench -n 20000 -r 1 -s 64 -d /bench file_write_fsync file_read_cold
for round in $(seq ${ROUNDS:-1}); do
  rm -rf work && mkdir work && sync
  measure find_20000 sh -c 'find many > work/list'
  measure find_20000_again sh -c 'find many -newer osbench > work/list'
  measure tar_c_x sh -c 'tar c tree | tar x -C work'
  git init -q work/repository && cp -r work/tree/[0-4] work/repository && cd work/repository
  measure_git() { ../../osbench time "$@"; }
  measure_git git_add sh -c 'git add . && git commit -qm first'
  cp -r ../tree/[5-9] . && git add . && git commit -qm second
  measure_git git_gc git gc -q
  measure_git git_status git status -s
  cd ../..
  measure rm_rf rm -rf work/tree work/repository
  measure sqlite_10000_at_once sqlite3 -batch work/a.db "$table
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<10000) INSERT INTO t SELECT i, 'row '||i FROM n;"
  { echo "$table"; rows; } > work/rows.sql
  measure sqlite_300_synchronous sh -c 'sqlite3 -batch work/b.db < work/rows.sql'
  dbench -t 10 -D work 1 > work/dbench && sed -n 's/^Throughput \([0-9.]*\) MB.*/dbench \1 MB\/s/p' work/dbench
  rm -rf work; sync
done
