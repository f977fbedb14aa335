echo one > f; echo two >> f
equal $(wc -l < f) 2
echo three > f
equal "$(cat f)" three
