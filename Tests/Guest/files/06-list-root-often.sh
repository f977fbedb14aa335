first=$(ls /)
i=0; while [ $i -lt 100 ]; do [ "$(ls /)" = "$first" ] || fail "round $i"; i=$((i + 1)); done
