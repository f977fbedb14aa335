# 4 MiB to the disk, then back.
head -c 4194304 /dev/urandom > /var/data
cp /var/data /var/copy
equal $(wc -c < /var/copy) 4194304
cat /var/data > one; cat /var/copy > two
[ "$(head -c 100000 one | wc -c)" = 100000 ] || fail short
rm /var/copy /var/data
