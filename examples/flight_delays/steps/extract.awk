# Checks that every line of a CSV file has its columns, and counts the lines.
# Data that is wrong stays wrong: exit code 65 says that another attempt is of no use.
BEGIN { FS = "," }
{ sub(/\r$/, "") }
NR == 1 { next }
NF < columns {
    printf "%s, line %d: %d columns, expected %d\n", FILENAME, FNR, NF, columns > "/dev/stderr"
    bad = 1
    exit 65
}
{ rows++ }
END {
    if (bad) exit 65
    printf "read %d rows of %s\n", rows, FILENAME > "/dev/stderr"
    printf "{\"rows\": %d}\n", rows
}
