{{/*
The environment of Okiba's processes. Each `define` below is a map NAME: {value} or {valueFrom}; `okiba.env` turns the
maps of a component into a container's list, with those first that others refer to by $(NAME).
*/}}

{{/* Args: root, maps (names of the defines below), extra (NAME: value, of the user's; wins). */}}
{{- define "okiba.env" -}}
{{- $all := dict -}}
{{- range .maps -}}
{{- $all = mergeOverwrite $all (include (printf "okiba.env.%s" .) $.root | fromYaml) -}}
{{- end -}}
{{- range $name, $value := .extra -}}
{{- $_ := set $all $name (dict "value" (toString $value)) -}}
{{- end -}}
{{- range $name, $entry := $all }}{{ if $entry.valueFrom }}
- name: {{ $name }}
  valueFrom: {{ toJson $entry.valueFrom }}
{{- end }}{{ end }}
{{- range $name, $entry := $all }}{{ if not $entry.valueFrom }}
- name: {{ $name }}
  value: {{ $entry.value | quote }}
{{- end }}{{ end }}
{{- end }}

{{- define "okiba.env.secret" -}}
valueFrom: { secretKeyRef: { name: {{ include "okiba.credentials" .root }}, key: {{ .key }} } }
{{- end }}

{{- define "okiba.env.common" -}}
HOME: { value: /tmp }
TMPDIR: { value: /tmp }
PYTHONUNBUFFERED: { value: "1" }
OKIBA_FLEET: { value: kubernetes }
OKIBA_CODE_FROM: { value: store }
OKIBA_STATE_DIR: { value: /var/lib/okiba }
OKIBA_FUNCTIONS_NAMESPACE: { value: {{ .Values.functions.namespace }} }
OKIBA_REGION: { value: {{ .Values.platform.region }} }
OKIBA_ACCOUNT_ID: { value: {{ .Values.platform.accountId | quote }} }
OKIBA_LOG_LEVEL: { value: {{ .Values.platform.logLevel }} }
OKIBA_REDIS_URL: { {{ include "okiba.env.secret" (dict "root" . "key" "redis-url") }} }
{{- if .Values.redis.external.brokerUrl }}
OKIBA_BROKER_URL: { value: {{ .Values.redis.external.brokerUrl | quote }} }
{{- else if .Values.credentials.existingSecret }}
OKIBA_BROKER_URL: { valueFrom: { secretKeyRef: { name: {{ include "okiba.credentials" . }}, key: broker-url, optional: true } } }
{{- end }}
OKIBA_SLOT_PYTHONS: { value: {{ join "," .Values.slots.pythons | quote }} }
{{- range $name, $value := .Values.platform.settings }}
OKIBA_{{ upper $name }}: { value: {{ $value | toString | quote }} }
{{- end }}
{{- end }}

{{- define "okiba.env.store" -}}
OKIBA_S3_ENDPOINT: { value: {{ include "okiba.s3Endpoint" . | quote }} }
OKIBA_S3_FUNCTION_ENDPOINT: { value: {{ .Values.s3.functionEndpoint | quote }} }
OKIBA_S3_WEBHOOK_URL: { value: "http://{{ include "okiba.host" (dict "root" . "service" "admin") }}:4567" }
OKIBA_S3_ACCESS_KEY: { {{ include "okiba.env.secret" (dict "root" . "key" "s3-access-key") }} }
OKIBA_S3_SECRET_KEY: { {{ include "okiba.env.secret" (dict "root" . "key" "s3-secret-key") }} }
{{- end }}

{{- define "okiba.env.platformKey" -}}
OKIBA_PLATFORM_KEY: { {{ include "okiba.env.secret" (dict "root" . "key" "platform-key") }} }
{{- end }}

{{/* What is left of the pod's grace after the wait before SIGTERM, less a moment to say goodbye; no less than a second. */}}
{{- define "okiba.graceSeconds" -}}
{{- max 1 (sub (sub .Values.gateway.terminationGracePeriodSeconds .Values.gateway.drainSeconds) 3) -}}
{{- end }}

{{- define "okiba.env.gateway" -}}
POD_IP: { valueFrom: { fieldRef: { fieldPath: status.podIP } } }
OKIBA_GATEWAY_NAME: { valueFrom: { fieldRef: { fieldPath: metadata.name } } }
OKIBA_GATEWAY_ADDRESS: { value: "0.0.0.0:4566" }
OKIBA_ADMIN_ADDRESS: { value: "0.0.0.0:4567" }
OKIBA_GATEWAY_PEER_ADDRESS: { value: "$(POD_IP):4567" }
OKIBA_GATEWAY_FUNCTION_ENDPOINT: { value: "http://{{ include "okiba.host" (dict "root" . "service" "gateway") }}:{{ .Values.gateway.service.port }}" }
OKIBA_GRACE_MS: { value: {{ mul 1000 (include "okiba.graceSeconds" . | int) | quote }} }
OKIBA_WEBHOOK_TOKEN: { {{ include "okiba.env.secret" (dict "root" . "key" "webhook-token") }} }
{{- end }}

{{- define "okiba.env.controller" -}}
POD_IP: { valueFrom: { fieldRef: { fieldPath: status.podIP } } }
OKIBA_POD_NAMESPACE: { valueFrom: { fieldRef: { fieldPath: metadata.namespace } } }
OKIBA_POD_NAME: { valueFrom: { fieldRef: { fieldPath: metadata.name } } }
OKIBA_FLEET_ADDRESS: { value: "tcp:$(POD_IP):4568" }
OKIBA_ADMIN_ADDRESS: { value: "0.0.0.0:4567" }
OKIBA_SLOT_IMAGE: { value: {{ include "okiba.slotImage" . | quote }} }
OKIBA_SLOT_POD: { value: /etc/okiba/slot-pod/slot-pod.json }
{{- end }}

{{- define "okiba.env.admin" -}}
OKIBA_ADMIN_ACCESS_KEY: { {{ include "okiba.env.secret" (dict "root" . "key" "admin-access-key") }} }
OKIBA_ADMIN_SECRET_KEY: { {{ include "okiba.env.secret" (dict "root" . "key" "admin-secret-key") }} }
{{- end }}

{{/* Proxies and certificate authorities, under the names that Python, OpenSSL, botocore and pip look for. */}}
{{- define "okiba.env.site" -}}
{{- $none := list "localhost" "127.0.0.1" "$(KUBERNETES_SERVICE_HOST)" ".svc" (printf ".svc.%s" .Values.clusterDomain) -}}
{{- $none = concat $none (.Values.proxy.noProxy | splitList "," | compact) -}}
{{- if or .Values.proxy.http .Values.proxy.https -}}
HTTP_PROXY: { value: {{ .Values.proxy.http | quote }} }
http_proxy: { value: {{ .Values.proxy.http | quote }} }
HTTPS_PROXY: { value: {{ .Values.proxy.https | quote }} }
https_proxy: { value: {{ .Values.proxy.https | quote }} }
NO_PROXY: { value: {{ join "," $none | quote }} }
no_proxy: { value: {{ join "," $none | quote }} }
{{- end }}
{{- if include "okiba.ca" . }}
SSL_CERT_FILE: { value: /etc/okiba/ca/ca.crt }
REQUESTS_CA_BUNDLE: { value: /etc/okiba/ca/ca.crt }
AWS_CA_BUNDLE: { value: /etc/okiba/ca/ca.crt }
PIP_CERT: { value: /etc/okiba/ca/ca.crt }
{{- end }}
{{- end }}
