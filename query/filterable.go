package query

import (
	"fmt"
	"strings"
)

// CheckFilter returns nil if every route that filters by tags can filter by a tag key with that
// value. Else it says why not: the key is a parameter of the routes, or has a meaning of its own in
// InfluxDB, or the key or the value is no text.
func CheckFilter(key, value string) error {
	switch key {
	case "verb", "start", "stop", "backfill", "step", "by", detailName, ticketName, tokenName, strings.ToLower(tokenName), strings.ToLower(lastEventID):
		return fmt.Errorf("%s is a parameter of queries", key)
	}
	if reservedName(key) {
		return fmt.Errorf("InfluxDB reserves the name %s", key)
	}
	if err := checkName("the tag", key); err != nil {
		return err
	}
	if len(value) > maxValueBytes || !printable(value) {
		return fmt.Errorf("its value is too long, holds control characters or is not UTF-8")
	}
	return nil
}
