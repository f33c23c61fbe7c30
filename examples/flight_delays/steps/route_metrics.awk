# The routes with the most late departures.
BEGIN { FS = ","; late_after = 15 }
{ sub(/\r$/, "") }
NR == 1 { next }
{ route = $4 "-" $5; flights[route]++ }
$2 > late_after { late[route]++ }
END {
    for (route in flights) routes++
    printf "{\"routes\": %d, \"worst\": [", routes
    for (n = 0; n < top; n++) {
        best = ""
        for (route in late)
            if (best == "" || late[route] > late[best] || (late[route] == late[best] && route < best)) best = route
        if (best == "") break
        printf "%s{\"route\": \"%s\", \"flights\": %d, \"delayed\": %d}", n ? ", " : "", best, flights[best], late[best]
        delete late[best]
    }
    print "]}"
}
