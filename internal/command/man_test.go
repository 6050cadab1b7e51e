package command

import (
	"regexp"
	"strings"
	"testing"
)

// TestManualPage checks that the page has every command and flag, and that no text of a help is
// taken for a request or an escape of roff.
func TestManualPage(t *testing.T) {
	page := output(t, "man")
	for _, want := range []string{
		".TH A\\-PROGRAM 1 ", "a\\-program v1.2.3", "\\fB\\-l\\fR, \\fB\\-\\-level\\fR \\fIstring\\fR\nLevel (default \\(dqINFO\\(dq)\n",
		".SS a\\-program list forget\n", "\\fB\\-\\-of\\-forget\\fR", ".SS a\\-program completion SHELL\n", "It\\(aqs a \\e program.\n", "\\ \\ .TH evil\n\\&.SH evil\n",
		".B 78\n",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("there is no %q in\n%s", want, page)
		}
	}
	request := regexp.MustCompile(`^\.(TH|SH|SS|PP|TP|B|br)\b`)
	escape := regexp.MustCompile(`\\(?:[-e& ` + "`" + `]|f[BIR]|\((?:dq|aq|ha|ti))`)
	for i, line := range strings.Split(page, "\n") {
		if strings.HasPrefix(line, ".") && !request.MatchString(line) || strings.HasPrefix(line, "'") {
			t.Errorf("line %d is a request: %s", i+1, line)
		}
		if rest := escape.ReplaceAllString(line, ""); strings.Contains(rest, `\`) {
			t.Errorf("line %d has an escape that is none: %s", i+1, line)
		}
	}
}
