echo > a1; echo > a2; echo > b1
set -- a*; equal "$*" "a1 a2"
set -- [ab]1; equal "$*" "a1 b1"
set -- z*; equal "$*" "z*"
set -- "a*"; equal "$*" "a*"
