# Sends somebody a message, once: tell.sh STATE WHO TEXT
set -eu
post=$1/post

# The key is the same in every attempt: a message that was sent before a crash is not sent again.
touch "$post"
if ! grep -q "^$TASKER_IDEMPOTENCY_KEY " "$post"; then
    printf '%s to %s: %s\n' "$TASKER_IDEMPOTENCY_KEY" "$2" "$3" >> "$post"
fi
echo "told $2: $3" >&2
