# A path of several hundred directories is made, walked and forgotten without deep recursion in the kernel.
i=0
while [ $i -lt 600 ]; do mkdir d || fail "mkdir $i"; cd d || fail "cd $i"; i=$((i + 1)); done
echo bottom > f
read -r word < f; equal "$word" bottom
cd /
