{{/* What objects are called, and the labels by which they find each other. */}}

{{- define "okiba.name" -}}
{{- $name := contains .Chart.Name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) -}}
{{- $name | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{- define "okiba.selector" -}}
app.kubernetes.io/name: okiba
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "okiba.labels" -}}
{{ include "okiba.selector" . }}
app.kubernetes.io/part-of: okiba
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{/* A name for what has no namespace: unique as long as the functions' namespace is. */}}
{{- define "okiba.clusterName" -}}
{{ include "okiba.name" . }}-slots.{{ .Values.functions.namespace }}
{{- end }}

{{- define "okiba.host" -}}
{{ include "okiba.name" .root }}-{{ .service }}.{{ .root.Release.Namespace }}.svc.{{ .root.Values.clusterDomain }}
{{- end }}

{{- define "okiba.credentials" -}}
{{ .Values.credentials.existingSecret | default (printf "%s-credentials" (include "okiba.name" .)) }}
{{- end }}

{{/* Whether the bundled servers are wanted: "true" or nothing. */}}
{{- define "okiba.valkey" -}}
{{- if and .Values.redis.bundled.enabled (not .Values.redis.external.url) }}true{{ end -}}
{{- end }}

{{- define "okiba.minio" -}}
{{- if not .Values.s3.external.endpoint }}true{{ end -}}
{{- end }}

{{- define "okiba.s3Endpoint" -}}
{{- if include "okiba.minio" . -}}
http://{{ include "okiba.host" (dict "root" . "service" "minio") }}:9000
{{- else -}}
{{ .Values.s3.external.endpoint | trimSuffix "/" }}
{{- end -}}
{{- end }}

{{/* The ConfigMap with the certificate authorities, or nothing. */}}
{{- define "okiba.ca" -}}
{{- if .Values.ca.existingConfigMap }}{{ .Values.ca.existingConfigMap }}
{{- else if .Values.ca.bundle }}{{ include "okiba.name" . }}-ca
{{- end -}}
{{- end }}

{{/* An image's full name. Args: root, image (registry, repository, tag, digest), tag (the default one). */}}
{{- define "okiba.image" -}}
{{- $registry := .image.registry | default .root.Values.image.registry -}}
{{- $name := list (trimSuffix "/" $registry) .image.repository | compact | join "/" -}}
{{- if .image.digest -}}
{{ $name }}@{{ .image.digest }}
{{- else -}}
{{ $name }}:{{ .image.tag | default .tag }}
{{- end -}}
{{- end }}

{{- define "okiba.controlPlaneImage" -}}
{{ include "okiba.image" (dict "root" . "image" .Values.image "tag" .Chart.AppVersion) }}
{{- end }}

{{- define "okiba.slotImage" -}}
{{ include "okiba.image" (dict "root" . "image" .Values.slots.image "tag" (printf "%s-python{python}" .Chart.AppVersion)) }}
{{- end }}

{{- define "okiba.valkeyImage" -}}
{{- if .Values.redis.bundled.image.repository -}}
{{ include "okiba.image" (dict "root" . "image" .Values.redis.bundled.image "tag" "latest") }}
{{- else -}}
{{ include "okiba.controlPlaneImage" . }}
{{- end -}}
{{- end }}

{{- define "okiba.minioImage" -}}
{{ include "okiba.image" (dict "root" . "image" .Values.s3.bundled.image "tag" .Chart.AppVersion) }}
{{- end }}
