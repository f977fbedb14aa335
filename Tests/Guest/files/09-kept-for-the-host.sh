# 10 MB that the host compares when the guest is off.
cp /tests/pattern /var/kept
equal $(wc -c < /var/kept) 10000000
