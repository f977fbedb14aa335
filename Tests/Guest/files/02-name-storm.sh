mkdir -p /var/storm/a/b
i=0
while [ $i -lt 60 ]; do
  echo $i > /var/storm/a/f$i; ln /var/storm/a/f$i /var/storm/a/l$i; ln -s f$i /var/storm/a/s$i
  i=$((i + 1))
done
i=0
while [ $i -lt 60 ]; do
  read -r number < /var/storm/a/s$i; equal "$number" $i
  mv /var/storm/a/f$i /var/storm/a/b/g$i
  rm /var/storm/a/s$i
  i=$((i + 1))
done
read -r number < /var/storm/a/l59; equal "$number" 59
equal $(ls /var/storm/a/b | wc -l) 60
rm -r /var/storm
[ ! -e /var/storm ] || fail "still there"
