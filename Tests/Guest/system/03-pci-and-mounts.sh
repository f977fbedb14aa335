mount > mounts
[ $(wc -l < mounts) -ge 3 ] || fail "mounts: $(cat mounts)"
dmesg > log
found=no; while read -r line; do case "$line" in *pci:*) found=yes;; esac; done < log
equal $found yes
