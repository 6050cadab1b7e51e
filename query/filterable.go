package query

import (
	"fmt"
	"strings"
)

// CheckFilter returns nil if every route that filters by tags can filter by a tag key with that value, or why not:
// the key is one of their parameters, or means something else to InfluxDB, or one of them is no text.
func CheckFilter(key, value string) error {
	switch key {
	case "verb", "start", "stop", "backfill", ticketName, tokenName, strings.ToLower(tokenName), strings.ToLower(lastEventID):
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
