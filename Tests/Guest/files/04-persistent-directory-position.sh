# Many names come back exactly once.
mkdir /var/many
i=0; while [ $i -lt 200 ]; do echo > /var/many/name$i; i=$((i + 1)); done
equal $(ls /var/many | wc -l) 200
rm -r /var/many
