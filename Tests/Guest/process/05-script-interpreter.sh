echo '#!/bin/sh' > script; echo 'echo "$0 got $1"' >> script
cp script copy
/bin/sh ./script one > out; read -r line < out; equal "$line" "./script got one"
