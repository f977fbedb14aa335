count=$(cat /dev/zero | head -c 10 | wc -c)
equal "$count" 10
