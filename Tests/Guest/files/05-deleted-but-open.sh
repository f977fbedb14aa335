# A file without a name lives until it is closed.
echo content > f
{ rm f; read -r line; equal "$line" content; } < f
[ ! -e f ] || fail "still there"
