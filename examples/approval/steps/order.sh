# Orders something, once: order.sh STATE SUPPLIER ITEM
set -eu
orders=$1/orders supplier=$2 item=$3
mkdir -p "$orders"

case $supplier in
acme) ;;
acme-on-holiday)
    echo "$supplier does not answer" >&2
    exit 75 # Another attempt may help.
    ;;
*)
    echo "there is no supplier $supplier" >&2
    exit 68 # Another attempt is of no use.
    ;;
esac
echo "$item" > "$orders/$TASKER_IDEMPOTENCY_KEY"
printf '{"order": "%s"}\n' "$TASKER_IDEMPOTENCY_KEY"
