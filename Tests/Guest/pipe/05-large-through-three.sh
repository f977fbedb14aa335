count=$(head -c 1000000 /dev/zero | cat | cat | wc -c)
equal "$count" 1000000
