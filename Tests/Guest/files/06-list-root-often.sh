# limit: 300
rounds=100; if [ -n "$TORTURE" ]; then rounds=10000; fi
first=$(ls /)
i=0; while [ $i -lt $rounds ]; do [ "$(ls /)" = "$first" ] || fail "round $i"; i=$((i + 1)); done
