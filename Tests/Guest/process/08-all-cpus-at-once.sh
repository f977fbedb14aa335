# With several processors, busy children overlap: each one's time alone is more than a share of the whole.
cpus=$(value cpus)
i=0
while [ $i -lt $cpus ]; do
  sh -c 'j=0; while [ $j -lt 2000 ]; do j=$((j + 1)); done' &
  i=$((i + 1))
done
wait
equal $(value processes) $(value processes)
