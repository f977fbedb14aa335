mkdir d; echo x > f
mkdir d 2>/dev/null && fail "mkdir of what exists"
cat d > /dev/null 2>&1 && fail "cat of a directory"
ls missing 2>/dev/null && fail "ls of nothing"
mv d d/inside 2>/dev/null && fail "a directory moved into itself"
ln f f 2>/dev/null && fail "ln onto itself"
rm d 2>/dev/null && fail "rm of a directory"
ln -s loop loop; cat loop 2>/dev/null && fail "a loop of links"
cat f/x 2>/dev/null && fail "a file as a directory"
true
