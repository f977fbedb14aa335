# A reader of an empty pipe waits for its writer.
line=$( (sleep 0.2; echo late) | { read -r word; echo "got $word"; } )
equal "$line" "got late"
