x='a  b'; equal "$x" 'a  b'
set -- $x; equal $# 2
equal "${y:-none}" none; y=; equal "${y-set}" ''
equal "${#x}" 4
f=dir/name.txt; equal "${f##*/}" name.txt; equal "${f%.txt}" dir/name; equal "${f%%/*}" dir
equal "$(echo "a\"b")" 'a"b'
equal "$((2 + 3 * 4))" 14
