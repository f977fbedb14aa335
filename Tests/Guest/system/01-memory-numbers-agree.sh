# MemFree is the frame allocator's count.
while read -r key number unit; do [ "$key" = MemFree: ] && free=$number; done < /proc/meminfo
frames=$(value free_frames)
difference=$((free / 4 - frames))
[ $difference -lt 64 ] && [ $difference -gt -64 ] || fail "MemFree $free kB, $frames frames"
