# Sets money aside: reserve.sh STATE BUDGET AMOUNT
set -eu
reserved=$1/reserved budget=$2 amount=$3
mkdir -p "$reserved"

# A file for each task that has money: another attempt writes the same file again. It is written before it is
# counted, so that of two tasks that want the rest of the budget not both get it.
mine=$reserved/$TASKER_TASK_ID
echo "$amount" > "$mine"
left=$(cat "$reserved"/* | awk -v budget="$budget" '{ budget -= $1 } END { print budget }')

if [ "$left" -lt 0 ]; then
    rm "$mine"
    echo "there is not enough: $amount is $((-left)) more than what is left of $budget" >&2
    exit 65 # Another attempt is of no use.
fi
printf '{"reservation": "%s", "left": %s}\n' "$TASKER_TASK_ID" "$left"
