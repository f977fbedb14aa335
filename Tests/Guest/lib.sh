# What cases share. fail ends a case; equal compares; value reads a number of /proc/kernel_state.
fail() { echo "failed: $*"; exit 1; }
equal() { [ "$1" = "$2" ] || fail "wanted '$2', got '$1'"; }
value() {
  while read -r key number; do
    if [ "$key" = "$1:" ]; then echo "$number"; return; fi
  done < /proc/kernel_state
}
