{{/* Says once what a first installation made, and what comes next. */ -}}
if [ -n "$made" ]; then
{{- if eq .Name "pulse"}}
	cat <<END

Pulse's token is $made
It was made now and is in {{.Config}} (mode 0600). It is not shown again.
Open http://127.0.0.1:8080/#token=$made
From another host: ssh -L 8080:127.0.0.1:8080 $(hostname 2>/dev/null || echo HOST), then the same address.
{{.Config}} is also where you let other hosts reach Pulse: see /usr/share/doc/pulse/OPERATIONS.md.

END
{{- else}}
	cat <<END

pulse-relay sends to 127.0.0.1:3000. For a server on another host, set "server", and its relay token as
"token", in {{.Config}} and run: systemctl restart pulse-relay

END
{{- end}}
fi
