{{/* Makes the user, the directories and the config file, each only if it is not there. */ -}}
if ! getent passwd {{.Name}} >/dev/null; then
	if ! getent group {{.Name}} >/dev/null; then
		groupadd --system {{.Name}}
	fi
	useradd --system --gid {{.Name}} --home-dir {{.Data}} --no-create-home --shell /usr/sbin/nologin --comment '{{.Account}}' {{.Name}}
fi
if [ ! -e {{.Data}} ]; then
	install -d -m 0700 -o {{.Name}} -g "$(id -gn {{.Name}})" {{.Data}}
fi
# PulseAudio has its files in this directory too.
if [ ! -e /etc/pulse ]; then
	install -d -m 0755 /etc/pulse
fi
made=
if [ ! -e {{.Config}} ] && [ ! -L {{.Config}} ]; then
{{- if eq .Name "pulse"}}
	made=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
	lines="\"data-dir\": \"{{.Data}}\",
  \"influx-address\": \"embedded\",
  \"token\": \"$made\""
{{- else}}
	made=yes
	lines="\"server\": \"127.0.0.1:3000\""
{{- end}}
	new=$(mktemp /etc/pulse/.new.XXXXXX) # 0600
	printf '{\n  %s\n}\n' "$lines" >"$new"
	chown {{.Name}}: "$new"
	mv "$new" {{.Config}}
{{- if ne .Name "pulse"}}
	chmod o+x /etc/pulse # it may be closed to all but the server's user; its files have modes of their own
{{- end}}
fi
if [ -f /etc/systemd/system/{{.Name}}.service ] && [ ! -L /etc/systemd/system/{{.Name}}.service ]; then
	echo "{{.Name}}: /etc/systemd/system/{{.Name}}.service is used instead of the unit of this package; remove it if you do not need it."
fi
