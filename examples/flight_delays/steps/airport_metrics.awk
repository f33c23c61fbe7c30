# Delays of all departures, and of the airports with the most late ones.
BEGIN { FS = ","; late_after = 15 }
{ sub(/\r$/, "") }
NR == 1 { next }
{
    flights++
    total += $2
    if (flights == 1 || $2 > worst) worst = $2
    departures[$4]++
    if ($2 > late_after) { delayed++; late[$4]++ }
}
END {
    printf "{\"overall\": {\"flights\": %d, \"delayed\": %d, \"mean_delay\": %.6f, \"worst_delay\": %d}, ", \
        flights, delayed, total / flights, worst
    printf "\"worst\": ["
    for (n = 0; n < top; n++) {
        best = ""
        for (code in late)
            if (best == "" || late[code] > late[best] || (late[code] == late[best] && code < best)) best = code
        if (best == "") break
        printf "%s{\"code\": \"%s\", \"departures\": %d, \"delayed\": %d}", n ? ", " : "", best, \
            departures[best], late[best]
        delete late[best]
    }
    print "]}"
}
