(cat /dev/zero; echo $? > status) | head -c 1 > /dev/null
sleep 0.1
read -r status < status
equal "$status" 141
