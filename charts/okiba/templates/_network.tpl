{{/* Parts of NetworkPolicies, and arithmetic on address ranges. */}}

{{- define "okiba.peer" -}}
podSelector:
  matchLabels:
    {{- include "okiba.selector" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "okiba.peerElsewhere" -}}
namespaceSelector: { matchLabels: { kubernetes.io/metadata.name: {{ .root.Release.Namespace }} } }
{{ include "okiba.peer" . }}
{{- end }}

{{- define "okiba.slotPeer" -}}
namespaceSelector: { matchLabels: { kubernetes.io/metadata.name: {{ .Values.functions.namespace }} } }
podSelector: { matchLabels: { app.kubernetes.io/part-of: okiba, app.kubernetes.io/component: slot } }
{{- end }}

{{- define "okiba.dnsRule" -}}
- to: {{ toJson .Values.networkPolicy.dns }}
  ports: [{ port: 53, protocol: UDP }, { port: 53, protocol: TCP }]
{{- end }}

{{/* A rule to peers that may be unnamed. Args: peers, ports. */}}
{{- define "okiba.outsideRule" -}}
- ports:
    {{- range .ports }}
    - { port: {{ . }}, protocol: TCP }
    {{- end }}
  {{- with .peers }}
  to: {{ toJson . }}
  {{- end }}
{{- end }}

{{- define "okiba.redisRule" -}}
{{- if include "okiba.valkey" . -}}
- to:
    - {{ include "okiba.peer" (dict "root" . "component" "valkey") | nindent 6 | trim }}
  ports: [{ port: 6379, protocol: TCP }]
{{- else -}}
{{ include "okiba.outsideRule" (dict "peers" .Values.networkPolicy.redis "ports" .Values.networkPolicy.redisPorts) }}
{{- end -}}
{{- end }}

{{- define "okiba.storeRule" -}}
{{- if include "okiba.minio" . -}}
- to:
    - {{ include "okiba.peer" (dict "root" . "component" "minio") | nindent 6 | trim }}
  ports: [{ port: 9000, protocol: TCP }]
{{- else -}}
{{ include "okiba.outsideRule" (dict "peers" .Values.networkPolicy.s3 "ports" .Values.networkPolicy.s3Ports) }}
{{- end -}}
{{- end }}

{{- define "okiba.slotsRule" -}}
- to:
    - {{ include "okiba.slotPeer" . | nindent 6 | trim }}
  ports: [{ port: 9100, endPort: 9107, protocol: TCP }]
{{- end }}

{{/* An IPv4 range's length, and its first address as a number: {"length", "address"}. */}}
{{- define "okiba.range" -}}
{{- $parts := splitList "/" . -}}
{{- $address := 0 -}}
{{- range splitList "." (first $parts) -}}
{{- $address = add (mul $address 256) (atoi .) -}}
{{- end -}}
{{- dict "length" (last $parts | atoi) "address" $address | toJson -}}
{{- end }}

{{/* "true" if the IPv4 range `outer` holds all of `inner`, and is no smaller. */}}
{{- define "okiba.holds" -}}
{{- $outer := include "okiba.range" .outer | fromJson -}}
{{- $inner := include "okiba.range" .inner | fromJson -}}
{{- $size := 1 -}}
{{- range until (sub 32 $outer.length | int) -}}
{{- $size = mul $size 2 -}}
{{- end -}}
{{- if and (le $outer.length $inner.length) (eq (div $outer.address $size) (div $inner.address $size)) -}}true{{- end -}}
{{- end }}

{{/* The part of the ranges that is cut out of one allowed range: those inside it. IPv6 is only compared with ::/0.
Args: allowed, denied (a list). */}}
{{- define "okiba.exceptions" -}}
{{- $allowed := .allowed -}}
{{- $inside := list -}}
{{- range .denied -}}
{{- if eq . $allowed -}}
{{- else if and (contains ":" .) (eq $allowed "::/0") -}}
{{- $inside = append $inside . -}}
{{- else if not (or (contains ":" .) (contains ":" $allowed)) -}}
{{- if include "okiba.holds" (dict "outer" $allowed "inner" .) }}{{ $inside = append $inside . }}{{ end -}}
{{- end -}}
{{- end -}}
{{- uniq $inside | toJson -}}
{{- end }}
