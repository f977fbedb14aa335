{ echo out; echo err >&2; } > o 2> e
equal "$(cat o)" out; equal "$(cat e)" err
cat > h <<EOF
value $((1 + 1))
EOF
equal "$(cat h)" "value 2"
ls /nothing > both 2>&1; equal $(wc -l < both) 1
